"""The public functions, one file each: `raysal.embed`, `raysal.select`, `raysal.search`, `raysal.predict`."""
