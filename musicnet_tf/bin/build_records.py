"""Corpus → sharded TFRecords, as an Apache Beam job; needs `musicnet_tf[beam]`.

    musicnet build_records --dataset=musicnet --data_dir=~/musicnet --output_dir=data/records/musicnet

The job itself is `pipelines/build_records.py`.
"""

from pipelines.build_records import main

__all__ = ["main"]
