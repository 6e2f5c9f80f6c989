"""Start an FNN from a factorisation machine, then shrink its tables.

    python examples/pretrain_fnn.py

Trains an FM on MovieLens-1M, then an FNN whose tables start from the FM's weights
and factors beside one drawn at random, and cuts the first to 25 % and 10 % of its
table bytes. `--freeze 2` keeps the tables as they are for the first two epochs.
"""

from __future__ import annotations

import keras
from before_after import arguments, compiled, load, shrink, train

import keras_eds
from keras_eds.models import FM, FNN
from keras_eds.pretraining import UpdateSchedule


def main() -> None:
    parser = arguments(__doc__ or "", "pretrain_fnn", epochs=6)
    parser.add_argument("--freeze", type=int, default=0, help="epochs, tables frozen")
    given = parser.parse_args()
    keras.utils.set_random_seed(0)
    data = load(given.data)
    print(f"Data: {data.source}, {len(data.train[1]):,} training examples.")
    fm = compiled(FM(data.fields, given.width, seed=0), data)
    train("FM", fm, data, given.epochs)

    def fnn() -> keras.Model:
        model = FNN(data.fields, given.width, (64, 64), dropout=0.2, seed=0)
        return compiled(model, data)

    train("FNN, random start", fnn(), data, given.epochs)
    # Same names, same shapes: the tables of the FM are those of the FNN.
    model = keras_eds.load_tables(fnn(), fm)
    thaw = UpdateSchedule(tables=lambda epoch: epoch >= given.freeze)
    train("FNN, FM start", model, data, given.epochs, thaw)
    shrink(model, data, given.epochs, given.out)


if __name__ == "__main__":
    main()
