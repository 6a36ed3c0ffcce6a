"""The benchmark: contestants in processes of their own that take turns."""
