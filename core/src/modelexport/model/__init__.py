"""From a reference to a model that answers: resolved, described, captured, held to narrower dims."""
