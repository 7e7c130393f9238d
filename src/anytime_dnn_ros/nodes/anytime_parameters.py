"""The parameters of anytime_node."""

from typing import get_args

from anytime_dnn_ros.engines.factory import ENGINES
from anytime_dnn_ros.engines.recovery import ON_ENGINE_ERROR
from anytime_dnn_ros.engines.tensorrt_options import PRECISIONS
from anytime_dnn_ros.ladder.manifest import ExitRuleName
from anytime_dnn_ros.ladder.profile import Monotone
from anytime_dnn_ros.nodes.engine_loading import NO_DLA
from anytime_dnn_ros.nodes.parameters import Parameter
from anytime_dnn_ros.quality.judge import DEFAULT_MONOTONE
from anytime_dnn_ros.timing.realtime import USUAL_PRIORITY

# Not 'off', which YAML reads as false.
NO_EXIT_RULE = 'none'

ANYTIME_PARAMETERS = (
    Parameter(
        'model',
        'lite',
        'Ladder bundle: the name of a shipped one, or the path of its folder.',
        when='configure',
    ),
    Parameter(
        'engine',
        'auto',
        'Library that runs the stages; auto takes TensorRT where it and an NVIDIA GPU are there, '
        'else ONNX Runtime.',
        choices=ENGINES,
        when='activate',
    ),
    Parameter(
        'precision',
        'auto',
        'Of the engines that TensorRT builds; auto is int8 for a quantised ladder, else fp16.',
        choices=PRECISIONS,
        when='activate',
    ),
    Parameter(
        'dla_core',
        NO_DLA,
        'Core of the deep learning accelerator that some Jetsons have, for the layers that it can '
        'run; -1: everything on the GPU.',
        minimum=NO_DLA,
        maximum=7,
        when='activate',
    ),
    Parameter(
        'workspace_mib',
        0,
        'GPU memory that an algorithm of TensorRT may use while it builds and runs; 0: all there '
        'is.',
        unit='MiB',
        minimum=0,
        maximum=1_048_576,
        when='activate',
    ),
    Parameter(
        'agreement_frames',
        '',
        'Folder of photos on which a new TensorRT engine must agree with ONNX Runtime before it '
        'serves; empty: synthetic frames, of which fewer count.',
        when='activate',
    ),
    Parameter(
        'on_engine_error',
        'rebuild',
        'When TensorRT fails on a frame: report keeps it, rebuild loads it anew from cache_dir '
        'and takes ONNX Runtime if that fails, fall_back takes ONNX Runtime. The next frame is '
        'served in each case.',
        choices=ON_ENGINE_ERROR,
        when='activate',
    ),
    Parameter(
        'build_only',
        False,
        'Build the TensorRT engines of the bundle into cache_dir, compare them, and leave.',
        when='start',
    ),
    Parameter(
        'threads',
        1,
        'CPU threads inside a stage; 1 has the tightest times on a busy machine.',
        minimum=1,
        maximum=64,
        when='activate',
    ),
    Parameter(
        'realtime_priority',
        USUAL_PRIORITY,
        'SCHED_FIFO priority of the threads that receive and answer, so that a busy machine does '
        'not keep them waiting for a core, and one more for the timer that cuts a stage; 1 is '
        'enough, 0 leaves them to the usual scheduler. '
        'Where the system refuses it, one line of the log names the mend.',
        minimum=0,
        maximum=99,
        when='activate',
    ),
    Parameter(
        'labels_path',
        '',
        "File with one class name per line, in place of the bundle's labels.",
        when='configure',
    ),
    Parameter(
        'cache_dir',
        '',
        'Folder that keeps stage times and TensorRT engines of this machine between starts; '
        'empty: $XDG_CACHE_HOME or ~/.cache, none: they are made at each activate.',
        when='activate',
    ),
    Parameter(
        'monotone',
        DEFAULT_MONOTONE,
        'What keeps a later answer from being worse than an earlier one of a frame: caching '
        'publishes the best answer so far, product multiplies the answers of all stages so far, '
        "none publishes each stage's own. A single image can still turn out worse.",
        choices=get_args(Monotone),
        when='activate',
    ),
    Parameter(
        'image_transport',
        'raw',
        'raw subscribes to image, compressed to image/compressed.',
        choices=('raw', 'compressed'),
        when='activate',
    ),
    Parameter(
        'image_reliability',
        'auto',
        "QoS of the image subscription; auto copies the publisher's.",
        choices=('auto', 'reliable', 'best_effort'),
        when='activate',
    ),
    Parameter(
        'deadline_ms',
        100.0,
        'Time from the deadline reference to the final answer; a shorter one holds for the frame '
        'that is being served, too.',
        unit='ms',
        minimum=1.0,
        maximum=60_000.0,
    ),
    Parameter(
        'deadline_reference',
        'stamp',
        "Where the deadline counts from: the image's stamp, or its receipt by the node.",
        choices=('stamp', 'receive'),
    ),
    Parameter(
        'max_frame_age_ms',
        1000.0,
        'A frame older than this by its stamp (deadline_reference stamp), or that has waited '
        'longer in the node, is dropped and counted.',
        unit='ms',
        minimum=1.0,
        maximum=3_600_000.0,
    ),
    Parameter(
        'miss_rate_target',
        0.01,
        'Accepted share of frames whose deadline is missed; sets the margin of the next stage. '
        'A forecast in time is no miss.',
        minimum=0.0001,
        maximum=0.5,
    ),
    Parameter(
        'confidence_target',
        0.0,
        'Stop refining once an answer is this confident; 0: confidence stops nothing.',
        minimum=0.0,
        maximum=1.0,
    ),
    Parameter(
        'exit_rule',
        NO_EXIT_RULE,
        "Stop refining once this rule of the bundle's quality data finds an answer good enough: "
        'its entropy, its largest probability (max_softmax) or a learned classifier per stage.',
        choices=(NO_EXIT_RULE, *get_args(ExitRuleName)),
    ),
    Parameter(
        'exit_mean_mmac',
        0.0,
        'Mean cost that exit_rule may have, in million multiply-accumulates per frame, counted '
        'on the calibration data; 0 takes the most accurate.',
        unit='MMAC',
        minimum=0.0,
        maximum=100_000.0,
    ),
    Parameter(
        'compute_price',
        0.0,
        'Expected accuracy that the compute of the whole ladder has to bring: stages that bring '
        'less than their share of it are not run. 0: all that bring anything are run. Needs a '
        'bundle that declares its accuracy, and is not used where accuracy_target is set.',
        minimum=0.0,
        maximum=1.0,
    ),
    Parameter(
        'accuracy_target',
        0.0,
        'Least compute for a given quality: the node finds the compute_price at which the mean '
        'declared accuracy of the final answers is this, in some hundred frames; if the deadline '
        'leaves less, all of it is used. 0: compute_price holds. Needs a bundle that declares '
        'its accuracy.',
        minimum=0.0,
        maximum=1.0,
    ),
    Parameter(
        'yield_to_newer',
        False,
        'End a frame after the stage that runs as soon as a newer frame waits: younger answers, '
        'from fewer stages.',
    ),
    Parameter(
        'publish_intermediate',
        True,
        'Publish the answer of every stage, not only the final one.',
    ),
    Parameter(
        'top_k',
        5,
        'How many classes a prediction lists.',
        minimum=1,
        maximum=100,
    ),
    Parameter(
        'diagnostics_period_s',
        1.0,
        'Period of /diagnostics and of the performance profile.',
        unit='s',
        minimum=0.1,
        maximum=60.0,
        when='configure',
    ),
    Parameter(
        'autostart',
        True,
        'Configure and activate at start; false waits for a lifecycle manager.',
        when='start',
    ),
)
