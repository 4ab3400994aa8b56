"""Networks that tag: one family a file, as in `musicnet_tf.models`; `tagger.py` and `_….py` hold what they share.

Each gives logits of `num_tags` tags under the head `tag`, and what these are told from at the Keras layer `embedding`,
at which `tagger.embedder` ends a network. Whether tags exclude one another (softmax) or not (sigmoid) is the task's to
say.
"""
