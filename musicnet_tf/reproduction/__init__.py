"""A paper's experiments, trained and evaluated row by row, and told beside the paper's own figures."""
