"""Apache Beam jobs: thin DoFns over the library."""
