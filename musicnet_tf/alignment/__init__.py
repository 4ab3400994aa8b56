"""Score + recording → labels in seconds of the recording, with a confidence and the reasons for doubt."""
