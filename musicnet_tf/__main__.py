"""`python -m musicnet_tf` is `musicnet`."""

import sys

from musicnet_tf.bin.main import main

sys.exit(main())
