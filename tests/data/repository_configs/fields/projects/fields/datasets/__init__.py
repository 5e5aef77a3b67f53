from .crops import CropFieldsDataset, WinterFieldsDataset

__all__ = ['CropFieldsDataset', 'WinterFieldsDataset']
