"""Everything about a GPU that can be measured in minutes; see __main__.py."""
