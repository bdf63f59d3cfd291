"""Motion and image sources, and the stores every later stage reads."""
