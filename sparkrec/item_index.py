"""Dense item indices, as encoded rows and embedding tables have them.

Item number n of a catalogue (0, 1, ...) has the dense index n + `FIRST_ITEM`; the indices below it
are reserved.
"""

PADDING = 0
UNKNOWN = 1
FIRST_ITEM = 2
