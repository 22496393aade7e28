"""The commands on a trained network: export, predict."""

from pathlib import Path
from typing import Annotated

import typer

from nasopt.cli.options import AsJson, Database, err, out, print_json
from nasopt.errors import SettingsError

Model = Annotated[
    Path,
    typer.Argument(help="A .safetensors file that nasopt wrote, or the TOML file of its study."),
]


def export(
    model: Model,
    *,
    formats: Annotated[
        list[str],
        typer.Option("--format", help="c, onnx, torch, safetensors, or all; may be repeated."),
    ],
    output: Annotated[Path, typer.Option(help="The folder to write to.")],
    name: Annotated[
        str | None,
        typer.Option(
            help="What files and C names begin with; the model file's name if not given."
        ),
    ] = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Write a network for use elsewhere, compared with PyTorch before it is written."""
    from nasopt.export import choose_formats, export_network
    from nasopt.export.display import export_lines

    chosen = choose_formats(formats)
    done = export_network(_weights(model, database), chosen, output, name)
    if as_json:
        print_json(done.to_json())
    else:
        for line in export_lines(done):
            out.print(line, highlight=False)


def predict(
    model: Model,
    images: Annotated[
        list[Path] | None, typer.Argument(metavar="IMAGE...", help="PNG, JPEG or .npy files.")
    ] = None,
    *,
    invert: Annotated[bool, typer.Option("--invert", help="Turn black into white.")] = False,
    test: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="The first N test images instead, with their classes; of the study's data if MODEL is a study.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="SOURCE",
            help="Where the images of --test lie: 'fashion-mnist', a folder with its files, or an .npz file.",
        ),
    ] = None,
    database: Database = None,
    as_json: AsJson = False,
) -> None:
    """Show what a network says to images."""
    from nasopt.model import load_network
    from nasopt.prediction import predict_files, predict_test
    from nasopt.prediction.display import prediction_notes, prediction_table

    if test is not None and (images or invert):
        raise SettingsError(
            "--test takes the test images as they are; leave out IMAGE and --invert, or --test"
        )
    if test is None and data is not None:
        raise SettingsError("--data is where test images lie; give --test N too, or leave it out")
    network = load_network(_weights(model, database))
    if test is not None:
        source = data if data is not None or model.suffix != ".toml" else _data(model, database)
        predictions = predict_test(network, test, source)
    else:
        predictions = predict_files(network, images or [], invert=invert)
    if as_json:
        print_json([prediction.to_json() for prediction in predictions])
    else:
        out.print(prediction_table(predictions))
        for line in prediction_notes(predictions):
            err.print(line, highlight=False)


def _data(study_file: Path, database: Path | None) -> str:
    """The data of a study, as ``--data`` would name them."""
    from nasopt.workflow import open_context

    return str(open_context(study_file, database=database).source)


def _weights(model: Path, database: Path | None) -> Path:
    if model.suffix != ".toml":
        if database is not None:
            raise SettingsError(f"{model} is a network already; leave out --database")
        return model
    from nasopt.settings import weights_file

    return weights_file(model, database)
