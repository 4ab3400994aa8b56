"""A server of exported models for development: TensorFlow Serving's interfaces where it itself is not to be had.

    with Server(Settings((ModelConfig("notes", Path("exported/notes")),), port=0)) as server:
        predictor = client.connect(f"grpc://localhost:{server.grpc_port}/notes")

A request walks one way: `grpc_services` or `rest` reads it, `models` finds the version that it means, `tensors`
(or `rest_json`) checks its inputs against the signature, `scheduler` joins it with others, `servable` runs it.
"""

from serving.server.server import Server
from serving.server.settings import Batching, ModelConfig, Settings, VersionPolicy

__all__ = ["Batching", "ModelConfig", "Server", "Settings", "VersionPolicy"]
