"""The scanner's interface: MRD (ISMRMRD) images over TCP in, coded live, answered, stored."""
