"""The routes: they translate and call."""
