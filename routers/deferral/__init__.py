"""When a draft is passed on to a dearer expert: rules learned from logged outcomes."""
