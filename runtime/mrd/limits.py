"""What a peer may ask for: each length, count and wait from outside is compared with it first."""

from __future__ import annotations

from dataclasses import dataclass

from edge_codec.spec import MAX_FRAME_VOXELS


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of a server or client; a peer beyond one of them loses its connection, and only that.

    Attributes
    ----------
    max_connections : int
        Connections that are open at once; one more takes the place of the oldest that has not shown
        who it is, and is refused where there is none.
    first_message_s : float
        Until a new connection has said who it is: its TLS handshake and its config message.
    idle_s : float
        Between two messages of a peer.
    message_s : float
        From the first byte of a message to its last.
    send_s : float
        For the peer to take an answer of ours.
    linger_s : float
        Wait for the peer to hang up after our last message, so that it is not lost on the way.
    max_text_bytes : int
        A config text or text message.
    max_header_bytes : int
        The XML header.
    max_attribute_bytes : int
        The meta attributes of an image.
    max_image_bytes : int
        The voxels of an image, all channels.
    max_frame_voxels : int
        Rows times columns of an image.
    max_frames : int
        Frames that one image splits into: channels, partitions, parts of complex numbers.
    max_acquisition_bytes, max_waveform_bytes : int
        Samples of an acquisition with its trajectory, of a waveform.
    max_streams : int
        Live streams of a connection, one for each kind of image it sends.
    max_open_voxels : int
        Voxels of all slices in work for a connection: each takes some 200 bytes of encoder state.
    max_total_voxels : int
        The same for all connections of a server together.
    max_in_flight_bytes : int
        What a connection has sent and got no answer to; then it is not read from until it is less.
    max_in_flight_items : int
        The same as a number of messages.
    """

    max_connections: int = 16
    first_message_s: float = 10.0
    idle_s: float = 300.0
    message_s: float = 30.0
    send_s: float = 30.0
    linger_s: float = 1.0
    max_text_bytes: int = 1 << 20
    max_header_bytes: int = 4 << 20
    max_attribute_bytes: int = 1 << 20
    max_image_bytes: int = 64 << 20
    max_frame_voxels: int = MAX_FRAME_VOXELS >> 2
    max_frames: int = 4096
    max_acquisition_bytes: int = 16 << 20
    max_waveform_bytes: int = 16 << 20
    max_streams: int = 64
    max_open_voxels: int = 1 << 22
    max_total_voxels: int = 1 << 23
    max_in_flight_bytes: int = 64 << 20
    max_in_flight_items: int = 1024
