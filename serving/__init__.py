"""TensorFlow Serving: its configuration and its clients."""
