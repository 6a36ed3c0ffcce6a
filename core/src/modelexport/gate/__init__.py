"""The parity gate: does the written artifact compute what the source computed? See docs/explanation/parity.md."""
