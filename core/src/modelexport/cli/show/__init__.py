"""What the commands print: for people on stdout, progress on stderr, or JSON for programs."""
