"""When are two readings of a data set the same? The one rule behind ``Source.fingerprint``.

A stage that was made of a source is found again as long as the source's fingerprint is equal, so
it holds everything that a stage's result can depend on:

- the split, the columns that are read and the class names in label order;
- every file's path below the root, its size in bytes and its *stamp*: what the file system says of
  its content. On a local disk the time of the last change (nanoseconds), in an object store the
  ETag, on the Hub the blob's id, else what comes nearest;
- the labels themselves where reading them costs little beside opening the source (parquet label
  columns, which are counted anyhow; class and split lists; headers and label members of local
  archives of 256 MB together), and wherever a file system gives no stamp at all.

A folder of millions of files is not listed for it: see the sources for what they then sample (of
images that a parquet file only names, the first few of each file).

What it cannot see: a local file that was rewritten with the same size *and* given its old time back
(``touch -r``, ``rsync --times`` of a tampered copy), unless its labels are read and it is they that
changed; and, where files are sampled, a change in one that was not. A copy that does not keep times
(``cp`` without ``-p``) counts as other data, unless its user calls both by one ``dataset.version``:
then that name, their layout and the images of each class are all that counts.
"""

from collections.abc import Mapping
from typing import Any

# In the order of trust; each is what one family of fsspec file systems calls it.
_STAMPS = [
    "ETag",
    "etag",
    "blob_id",
    "oid",
    "md5Hash",
    "generation",
    "mtime",
    "LastModified",
    "last_modified",
    "created",
]


def stamp(entry: Mapping[str, Any]) -> str:
    """What a file system says of a file's content, from its ``info``; "" where it says nothing."""
    for name in _STAMPS:
        if entry.get(name) is not None:
            return f"{name}={entry[name]}"
    return ""
