"""From posteriorgrams and activations to events. NumPy only, so that a client needs no TensorFlow."""
