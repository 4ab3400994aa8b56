"""The verbs of `musicnet <verb>`, one thin absl app a file."""
