"""What avfuse can do, measured: beside its peers, against known truth and against what is possible at all.

    python -m benchmarks sound      accuracy and cost beside peers, on real and simulated pairs
    python -m benchmarks honest     coverage of the stated intervals; unrelated recordings
    python -m benchmarks limits     noise against the Cramer-Rao bound, drift, devices far apart
    python -m benchmarks speed      hour-long files: time and memory, against decoding alone
    python -m benchmarks codecs     one sound through many codecs and containers
    python -m benchmarks joint      many recordings jointly, some comparisons wrong
    python -m benchmarks space      matches, transforms, registration, clouds, arrays, beside libraries that do each
    python -m benchmarks fusion     what alignment is worth to networks, other rates, missing streams, co-learning
    python -m benchmarks prepare    how exact windows are, how fast they are made and read, filtering, broken files
    python -m benchmarks sensors    reading tables and XDF, against the libraries that read them

cases, clips        files with known truth, as entries of a list that `avfuse evaluate` takes
peers and runners   programs of others, each in an environment of its own, as methods of `avfuse evaluate`
measuring           methods on cases, through `avfuse.evaluate`
rows                small measurements of avfuse's insides, for `calibrate`
tables, plots       what is shown; full runs write docs/accuracy.md
"""
