import os
import signal

# Kernels run in Triton's interpreter, on the CPU; it is chosen when a kernel's module is imported.
os.environ["TRITON_INTERPRET"] = "1"

# A shell has what it starts in the background ignore Ctrl-C, and all that this starts in turn.
# Tests of Ctrl-C must not depend on how the suite was started.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
