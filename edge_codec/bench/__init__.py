"""Measurements that a user can repeat: `edge-codec bench`.

Nothing here is needed to encode or decode. The peers' libraries come with the extra `bench` and
are imported where they are used.
"""
