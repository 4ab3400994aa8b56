"""Software that listens to music and writes down what it hears."""

__version__ = "0.1.0"
