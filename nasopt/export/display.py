"""An export in lines for people to read in a terminal."""

from nasopt.export import Export, ExportedFile

# Measured with gcc 12 -Os on x86-64: 0.8 KB with one activation and two layers, 1.6 KB with five and six.
CODE_NOTE = "plus 1 to 2 KB of code and what it uses of the maths library"


def export_lines(export: Export) -> list[str]:
    """The files, how each was checked, and what the network costs."""
    lines = [f"{file.format:<11} {file.path}  {_describe(file)}" for file in export.files]
    return [
        *lines,
        "",
        f"genome      {export.genome}",
        f"parameters  {export.n_params:,}",
        f"MACs        {export.macs:,}",
        f"flash       {export.flash_bytes:,} bytes of float weights, {CODE_NOTE}",
        f"RAM         {export.ram_bytes:,} bytes for image, scratch and logits in C; "
        f"{export.least_ram_bytes:,} where the image may be overwritten",
    ]


def _describe(file: ExportedFile) -> str:
    if file.unchecked is not None:
        return f"{file.n_bytes:,} bytes, NOT CHECKED against PyTorch: {file.unchecked}"
    return f"{file.n_bytes:,} bytes, checked against PyTorch: logits of {file.n_checked} images within {file.max_difference:.1e}"
