"""Networks that tag: one family a file, as in `musicnet_tf.models`; `tagger.py` and `_….py` hold what they share.

Each gives logits of `num_tags` tags under the head `tag`, and what these are told from under the head `embedding`.
Whether tags exclude one another (softmax) or not (sigmoid) is the task's to say.
"""

from musicnet_tf.registry import import_modules

import_modules(__name__)
