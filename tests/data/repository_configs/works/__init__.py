from .site_photos import SitePhotos
