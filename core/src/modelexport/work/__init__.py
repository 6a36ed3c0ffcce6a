"""What the verbs do: plan, prepare, export, optimize, quantize, and reuse what is finished."""
