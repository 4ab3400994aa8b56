"""The flags of verbs that may run a model on a server, defined once.

A verb imports this by its full name and takes the flags for its own, so that its help tells them:

    import musicnet_tf.bin._server_flags as server_flags

    flags.adopt_module_key_flags(server_flags)
    ...
    with server_flags.connect() as predictor: ...  # where server_flags.SERVER.value is given
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from absl import app, flags

if TYPE_CHECKING:
    from serving.client import Options, RemotePredictor

SERVER = flags.DEFINE_string(
    "server",
    None,
    "A model on a server instead: grpc://host:port/model, or grpcs://, http:// or https://; model@3 for a version,"
    " model:stable for a label.",
)
_TIMEOUT = flags.DEFINE_float("server_timeout", 60.0, "Seconds that the server may take for one message.")
_TOTAL_TIMEOUT = flags.DEFINE_float(
    "server_total_timeout", 300.0, "Seconds for one message with its retries; a restart within them is waited for."
)
_CONNECT_TIMEOUT = flags.DEFINE_float(
    "server_connect_timeout", 10.0, "The same at the start, where a wrong address is likelier than a restart."
)
_IN_FLIGHT = flags.DEFINE_integer("in_flight", 4, "Messages that wait for the server's answers at once.", lower_bound=1)
_COMPRESSION = flags.DEFINE_enum(
    "server_compression", "none", ["none", "gzip"], "Of messages; audio hardly shrinks, so for slow connections alone."
)
_CA = flags.DEFINE_string("server_ca", None, "Certificates (PEM) that the server's must be signed by.")
_CERTIFICATE = flags.DEFINE_string("server_certificate", None, "This client's certificate (PEM), if it is asked for.")
_KEY = flags.DEFINE_string("server_key", None, "The private key (PEM) of --server_certificate.")
_TOKEN_FILE = flags.DEFINE_string("server_token_file", None, "File that holds a bearer token for the server.")
_TOKEN_VARIABLE = flags.DEFINE_string(
    "server_token_variable", None, "Name of an environment variable that holds the token instead."
)
_NEED_SERVER = ["server_ca", "server_certificate", "server_key", "server_token_file", "server_token_variable"]


def check() -> None:
    """Refuses a command line that names a model both here and on a server, or tells of a server that it does not name.

    Raises:
        UsageError: then.
    """
    if SERVER.value is None:
        given = [name for name in _NEED_SERVER if flags.FLAGS[name].value is not None]
        if given:
            raise app.UsageError(f"--{given[0]} is of use with --server alone")
    elif "model" in flags.FLAGS and flags.FLAGS["model"].value:
        raise app.UsageError("give --model or --server, not both")


def options() -> Options:
    """What the flags say. Raises ConfigError where they do not go together."""
    from serving.client import Options

    return Options(
        timeout=_TIMEOUT.value,
        total_timeout=_TOTAL_TIMEOUT.value,
        connect_timeout=_CONNECT_TIMEOUT.value,
        in_flight=_IN_FLIGHT.value,
        compression=_COMPRESSION.value,
        ca_file=_CA.value,
        certificate_file=_CERTIFICATE.value,
        key_file=_KEY.value,
        token_file=_TOKEN_FILE.value,
        token_variable=_TOKEN_VARIABLE.value,
    )


def connect() -> RemotePredictor:
    """The model that --server names. Close it. Raises ServingError."""
    from serving import client

    return client.connect(SERVER.value or "", options())
