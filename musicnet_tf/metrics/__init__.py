"""Adapters onto mir_eval and scikit-learn, and the MusicNet paper's own protocol."""
