"""``streamstyle bench``: how fast films are painted on this machine.

::

    options ─► measure ─┬─► scene   a film made here, where no clip is given
                        ├─► jobs    whole jobs: overlapped, in turn, transcoded only, in a process of their own
                        ├─► alone   each stage alone, and the parts of painting
                        └─► report ─► table, plot

What is timed is what ``streamstyle run`` runs: the decoder, the stylizer, the encoder and their stages themselves.
"""
