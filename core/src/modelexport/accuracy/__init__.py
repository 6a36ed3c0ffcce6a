"""How much accuracy a quantized copy keeps: the score, what it is taken on, and the golden cases of the copy."""
