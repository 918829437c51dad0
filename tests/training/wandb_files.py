"""Reads what W&B has written offline: records of wandb's own protocol, in a file of LevelDB's log format."""

import json
import struct
import time
import zlib

from wandb.proto import wandb_internal_pb2

BLOCK = 1 << 15
HEADER = 7


def records(path):
    """All whole records of a .wandb file, in their order."""
    data = path.read_bytes()
    assert data[:4] in (b":W&B", b"")
    at, whole = HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:  # too little for another part: zeros
            at += BLOCK - at % BLOCK
            continue
        checksum, size, kind = struct.unpack("<IHB", data[at : at + HEADER])
        part = data[at + HEADER : at + HEADER + size]
        if checksum != zlib.crc32(part, zlib.crc32(bytes([kind]))):
            return  # it is being written
        whole, at = whole + part, at + HEADER + size
        if kind in (1, 4):  # all of a record, or the end of one
            record = wandb_internal_pb2.Record()
            record.ParseFromString(whole)
            whole = b""
            yield record


def named(items):
    """The values of a record's items by name; of those with several parts, such as histograms, a mapping."""
    values = {}
    for item in items:
        *above, last = item.nested_key or [item.key]
        node = values
        for name in above:
            node = node.setdefault(name, {})
        node[last] = json.loads(item.value_json)
    return values


def whole(folder, seconds=60):
    """The records of the run in `folder`; a process of W&B's own may still write the last ones when a run is over."""
    end = time.monotonic() + seconds
    while True:
        found = [record for path in folder.glob("wandb/*-run-*/*.wandb") for record in records(path)]
        if any(record.HasField("exit") for record in found):
            return found
        assert time.monotonic() < end, "the run is not over"
        time.sleep(0.05)


class Run:
    """What a .wandb file says of its run.

    Attributes:
        run: the record that describes it.
        config: its settings.
        axis: the metric that is the axis of all others.
        rows: what was logged, a mapping for each step.
        summary: its numbers.
        artifacts: names of the files of each, by type.
    """

    def __init__(self, folder):
        self.rows, self.summary, self.artifacts = [], {}, {}
        for record in whole(folder):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.run, self.config = record.run, named(record.run.config.update)
            elif kind == "metric" and record.metric.glob_name == "*":
                self.axis = record.metric.step_metric
            elif kind == "history":
                self.rows.append(named(record.history.item))
            elif kind == "summary":
                self.summary |= named(record.summary.update)
            elif kind == "artifact":
                files = [content.path for content in record.artifact.manifest.contents]
                self.artifacts.setdefault(record.artifact.type, []).append(files)
