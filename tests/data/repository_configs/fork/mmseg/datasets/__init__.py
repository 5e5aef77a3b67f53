from .pools import SwimmingPoolDataset
