"""Every shared setting with its default and one line of meaning.

`python config.py [--method NAME] [--decoder NAME] [--trunk NAME] [--tuning NAME]` prints them
together with those that datasets and these choices declare in their own files. `KEY VALUE` pairs on
a command line change them (`TRAIN.MAX_ITER 60000`); utils/settings.py refuses unknown keys and
values of another type.
"""

from utils.settings import Setting

SETTINGS = {
    "METHOD": Setting("srha", "training method, a name of network/methods (flag --method)"),
    "EXPERIMENT": Setting("", "name of the experiment folder below LOG.DIR (flag --exp)"),
    "INIT": Setting(
        "", "checkpoint or experiment folder whose weights training starts from (flag --init)"
    ),
    "INIT_PARTS": Setting(
        ["trunk", "decoder"],
        "parts of the method that INIT fills: trunk, decoder, teacher …",
        least=1,
    ),
    "INIT_CLASSIFIER": Setting(
        "copy",
        "weights of INIT that count other classes: an error (copy), or left out (new)",
        choices=("copy", "new"),
    ),
    "UNKNOWN_SETTINGS": Setting(
        "refuse",
        "what becomes of settings in a checkpoint that this version does not know",
        choices=("refuse", "ignore"),
    ),
    "SEED": Setting(304, "seed of initialisation, sample order, augmentation and training steps"),
    "DEVICE": Setting(
        "auto", "auto takes a GPU where there is one", choices=("auto", "cpu", "cuda")
    ),
    "PRECISION": Setting(
        "float32",
        "arithmetic of the forward pass; bfloat16 is autocast, losses and statistics stay float32",
        choices=("float32", "bfloat16"),
    ),
    "MATMUL_PRECISION": Setting(
        "highest",
        "products of float32 matrices: highest is float32; high may take TF32, faster on GPUs for "
        "transformers (torch.set_float32_matmul_precision)",
        choices=("highest", "high"),
    ),
    "CHANNELS_LAST": Setting(True, "memory layout NHWC, faster on CPUs and on GPUs in bfloat16"),
    "DETERMINISTIC": Setting(
        False,
        "two runs on one machine are equal to the last bit; slower on GPUs, and an error where an "
        "operation has no such form there (docs/running.md)",
    ),
    "COMPILE": Setting(False, "compile trunk and decoder: minutes at the start, faster on GPUs"),
    "WORKERS": Setting(4, "data loading processes of each training process", maximum=1024),
    "DATASET": {
        "SOURCE": Setting(["gtav"], "training datasets, names or files (flag --dataset)"),
        "MIXING": Setting(
            "equal",
            "how batches are made of several sources: equal parts of each, or in proportion to "
            "their numbers of images",
            choices=("equal", "proportional"),
        ),
        "VALIDATION": Setting(
            ["cityscapes", "bdd100k", "mapillary"],
            "datasets evaluated during training, NAME or NAME:SPLIT (flag --val_dataset)",
        ),
        "LABEL_SPACE": Setting(
            "", "classes that are trained; empty: those of the sources, which have to agree then"
        ),
        "FILES": Setting(
            [],
            "files that describe datasets of your own, which then have names like the others; a "
            "file can also be given in place of a name (docs/datasets.md)",
        ),
        "ROOT": Setting("", "folder that holds one folder for each dataset under its usual name"),
        "SAMPLING": Setting(
            "class_uniform",
            "which crops an epoch has: class_uniform, a share of them around class centroids; "
            "rare_class, more of the rarer classes (DAFormer); random, each image once",
            choices=("class_uniform", "rare_class", "random"),
        ),
        "CLASS_UNIFORM_FRACTION": Setting(
            0.5, "share of an epoch's crops drawn around class centroids", maximum=1
        ),
        "CLASS_UNIFORM_TILE": Setting(
            1024, "pixels; side of the label tiles that give centroids", minimum=8
        ),
        "RARE_CLASS_TEMPERATURE": Setting(
            0.01, "of rare-class sampling; small: the rarest alone", minimum=1e-4
        ),
        "RARE_CLASS_PIXELS": Setting(
            3000, "an image that is drawn for a class has more pixels of it"
        ),
        "RARE_CLASS_CROP_PIXELS": Setting(
            1500,
            "a crop drawn for a class is drawn again, ten times at most, until it has more pixels "
            "of the class",
        ),
        "CACHE_DIR": Setting("cache", "folder for what a source's labels hold, read once"),
    },
    "TRANSFORM": {
        "BOX": Setting(
            [0, 0],
            "pixels; images are first resized to fit into it with their aspect, bilinearly without "
            "antialiasing (published for self-training: 1280,720); 0,0: none",
        ),
        "SCALE": Setting([0.5, 2.0], "range of the random scale", minimum=0.01, maximum=100),
        "SHORT_EDGES": Setting(
            [0],
            "pixels; images are resized to a short edge of one of these with their aspect, "
            "bilinearly without antialiasing, in place of BOX and SCALE (published for Rein: 256, "
            "307, 358 … 1024); 0: none",
        ),
        "CROP_SIZE": Setting([768, 768], "pixels, height and width of a training crop", minimum=1),
        "FLIP": Setting(0.5, "probability of a horizontal flip", maximum=1),
        "MAX_CLASS_SHARE": Setting(
            1.0,
            "a crop is placed again, ten times at most, until two classes are there and the larger "
            "has less than this share (published for self-training: 0.75); 1: never",
            minimum=0.01,
            maximum=1,
        ),
        "JITTER": Setting([0.4, 0.4, 0.4, 0.1], "brightness, contrast, saturation, hue"),
        "JITTER_PROBABILITY": Setting(0.5, "probability of colour jitter", maximum=1),
        "BLUR_SIGMA": Setting([0.15, 1.3], "pixels, range of the Gaussian blur", minimum=0.01),
        "BLUR_PROBABILITY": Setting(1.0, "probability of blur (published: always)", maximum=1),
        "PHOTOMETRIC_ON": Setting(
            "auto",
            "who applies jitter and blur: the data loading workers, or the device that trains "
            "(auto: the device where it is a GPU)",
            choices=("auto", "worker", "device"),
        ),
    },
    "TRUNK": {
        "NAME": Setting("resnet50", "backbone, a name of network/trunks (flag --trunk)"),
        "OUTPUT_STRIDE": Setting(
            16, "stride of layer 4; MiT has 32 only, its default", choices=(8, 16, 32)
        ),
        "RECOMPUTE": Setting(
            [False, False, False, False],
            "layers 1-4 whose activations are computed again in the backward pass, which saves "
            "memory and costs one forward pass of them",
        ),
        "WEIGHTS": Setting(
            "imagenet",
            "imagenet (torchvision's IMAGENET1K_V1; of MiT the hub's nvidia/mit-b0 … b5), meta "
            "(DINOv2's), none, a path to a state dict (of MiT and DINO also a folder of the hub), "
            "or objects (the stand-in for resnet_mini)",
        ),
        "TUNING": Setting(
            "full", "what is trained of it, a name of network/tuning (flag --tuning)"
        ),
    },
    "DECODER": {
        "NAME": Setting("deeplabv3plus", "decoder, a name of network/decoders (flag --decoder)"),
    },
    "TRAIN": {
        "MAX_ITER": Setting(60000, "optimizer steps", minimum=1),
        "BATCH_SIZE": Setting(
            8, "images in an optimizer step, over all processes", minimum=1, maximum=2**16
        ),
        "BATCH_PER_PROCESS": Setting(
            4,
            "at most so many images in one forward pass; the rest of the batch is accumulated",
            minimum=1,
            maximum=2**16,
        ),
        "LR_ENCODER": Setting(0.005, "learning rate of the trunk", maximum=1000),
        "LR_DECODER": Setting(0.01, "learning rate of everything else", maximum=1000),
        "OPTIMIZER": Setting("sgd", "optimizer", choices=("sgd", "adamw")),
        "MOMENTUM": Setting(0.9, "of SGD", maximum=1),
        "WEIGHT_DECAY": Setting(5e-4, "of everything trained but what NO_DECAY names", maximum=10),
        "WEIGHT_DECAY_END": Setting(
            -1.0,
            "WEIGHT_DECAY goes there over MAX_ITER by half a cosine (published for SoMA: 1e-5); "
            "-1: it stays",
            minimum=-1,
            maximum=10,
        ),
        "NO_DECAY": Setting(
            [],
            "parameters without weight decay, any of norms, embeddings, biases (SRHA as published: "
            "none); with any of them also what a trunk's no_weight_decay() names; named: only that",
            choices=("norms", "embeddings", "biases", "named"),
        ),
        "SCHEDULE": Setting(
            "poly",
            "how all rates fall: (1 - step / MAX_ITER) ** POLY_POWER, or exp(-EXP_RATE * step / "
            "EXP_SPAN)",
            choices=("poly", "exp"),
        ),
        "POLY_POWER": Setting(0.9, "of SCHEDULE poly", maximum=100),
        "EXP_RATE": Setting(9.0, "of SCHEDULE exp (published for MLDG, PinTheMem)", maximum=100),
        "EXP_SPAN": Setting(120_000, "steps, of SCHEDULE exp; no end of the training", minimum=1),
        "WARMUP": Setting(
            0, "steps in which the factor of both rates rises linearly from 1e-6 to 1; 0: none"
        ),
        "EMA": Setting(
            0.0,
            "decay of a moving average of the trained weights, which is evaluated and deployed in "
            "their place (published for SoMA: 0.9998); 0: none",
            maximum=1,
        ),
        "EMA_START": Setting(
            0, "steps after which the average begins, as a copy of the weights (SoMA: 12000)"
        ),
        "CLIP_NORM": Setting(0.0, "gradients are scaled down to this total L2 norm; 0: never"),
        "SYNC_BATCH_NORM": Setting(True, "batch statistics over all GPUs"),
    },
    "VALID": {
        "PROTOCOL": Setting(
            "robustnet",
            "sizes at which datasets are evaluated, see transforms/protocols.py (flag --protocol)",
            choices=("robustnet", "native", "openseg", "daformer", "hrda", "sepico", "rein"),
        ),
        "SCALES": Setting(
            [1.0], "average predictions over these scales (flag --scales)", minimum=0.01, least=1
        ),
        "FLIP": Setting(False, "average with the prediction of the mirrored image (flag --flip)"),
        "SLIDING": Setting(
            [0, 0],
            "crop and stride in pixels of sliding windows, 0: whole images (flag --sliding)",
        ),
        "MAX_PIXELS": Setting(
            16_000_000,
            "an image of which the network would see more pixels at once is an error, because its "
            "memory grows with them; 0: any size",
        ),
        "EVERY": Setting(
            5000, "steps between validations, 0: none; the last step is always evaluated"
        ),
        "BEST_ON": Setting(
            "",
            "domain of VALIDATION whose mIoU chooses best.pth; empty: the mean over the validation "
            "splits of the sources. An unseen domain makes the choice an oracle",
        ),
        "BATCH_SIZE": Setting(
            1, "images of equal size in one evaluation pass", minimum=1, maximum=2**16
        ),
        "MAX_IMAGES": Setting(
            0, "evaluate only so many images of each domain while training; 0: all"
        ),
    },
    "LOG": {
        "DIR": Setting("logs", "folder of the experiment folders"),
        "EVERY": Setting(50, "steps between log entries", minimum=1),
        "PICTURES_EVERY": Setting(
            2000, "steps between prediction pictures in TensorBoard; 0: none"
        ),
        "CHECKPOINT_EVERY": Setting(1000, "steps between checkpoints", minimum=1),
    },
}

if __name__ == "__main__":
    from utils.engine.command_line import print_settings
    from utils.errors import run_script

    run_script(print_settings)
