"""Networks that tag: one family a file, as in `musicnet_tf.models`; files with an underscore hold what they share.

Each gives logits of `num_tags` tags under the head `tag`, and what these are told from under the Keras layer named
`embedding`; see `_tagger.py`. Whether tags exclude one another (softmax) or not (sigmoid) is the task's to say.
"""
