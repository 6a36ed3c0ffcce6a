"""The user's data: read row by row, made into the arrays that a model takes, and outputs made readable."""
