"""Tools that a model may call: where they come from, and what a call of one gives."""
