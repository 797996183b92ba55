"""Packets of live streams over the network: TCP that resumes, and UDP that bears losses.

`docs/transport.md` specifies both protocols byte by byte. Senders are sinks of the pipeline;
receivers store what arrives as streams that are whole in themselves, with a journal of what is
missing.
"""
