"""Files of sensors as recordings: see `avfuse.io.read`.

text_layout, text_tables, written_times   CSV, TSV, TUM, EuRoC
parquet, arrays, xdf, bags                the other formats
gpmf, telemetry                           what cameras write into their video files
headers, times, channels                  names, stamps and kinds, decided by evidence
columns, assembling                       from columns to a recording, and what is odd about it
"""
