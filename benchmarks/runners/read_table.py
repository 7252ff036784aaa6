"""Read one file once and say how long that took, imports left out: `pyarrow`, `pyxdf` or `avfuse` FILE.

avfuse also walks through all blocks, as estimators do.
"""

import json
import sys
import time

reader, path = sys.argv[1:]
if reader == "pyarrow":
    import pyarrow.csv
    import pyarrow.parquet

    began = time.perf_counter()
    table = pyarrow.parquet.read_table(path) if path.endswith(".parquet") else pyarrow.csv.read_csv(path)
    told = {"rows": table.num_rows}
elif reader == "pyxdf":
    import pyxdf

    began = time.perf_counter()
    streams, _ = pyxdf.load_xdf(path)
    told = {s["info"]["name"][0]: [s["time_stamps"][0], s["time_stamps"][-1]] for s in streams}
else:
    from importlib import import_module

    import avfuse

    # What reading imports when it is first asked for.
    for module in ("pyarrow.csv", "pyarrow.compute", "pyarrow.parquet", "pyxdf", "avfuse.io"):
        import_module(module)
    for module in ("text_tables", "written_times", "parquet", "xdf"):
        import_module(f"avfuse.io.sensors.{module}")
    began = time.perf_counter()
    recording = avfuse.read(path)
    samples = sum(len(times) for stream in recording.streams for times, _ in stream.blocks(10.0))
    assert samples == sum(len(stream.times) for stream in recording.streams)
    if path.endswith(".xdf"):
        start = recording.start / 1e9
        told = {s.facts["stream_name"]: [s.times[0] + start, s.times[-1] + start] for s in recording.streams}
    else:
        told = {"rows": len(recording.streams[0].times)}
print(json.dumps({"seconds": time.perf_counter() - began, **told}))
