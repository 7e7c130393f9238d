"""Labelled images: what a ladder is trained, calibrated and measured on."""

from anytime_dnn_ros.datasets.images import Dataset, DatasetError, Images, image_spec
from anytime_dnn_ros.datasets.read import read_dataset

__all__ = ['Dataset', 'DatasetError', 'Images', 'image_spec', 'read_dataset']
