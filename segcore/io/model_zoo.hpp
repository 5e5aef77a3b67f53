/// Addresses of published weights and their place in the cache. Nothing here touches the network:
/// tools/fetch_weights downloads.
#pragma once
#include <optional>
#include <string>

namespace seg {

/// A published file.
struct ZooFile {
  std::string url;
  /// Its place in the cache folder, whether it is there or not.
  std::string path;
  /// The first digits (8 or more, lower case) of its SHA-256, which its name carries as
  /// "name-1a2b3c4d.pth"; "" where it carries none.
  std::string sha256_prefix;
  /// Only weights below this prefix are used ("backbone." of classifiers from mmcls://); "" for
  /// all.
  std::string prefix;
};

/// The folder of downloaded weights: $SEGCORE_HOME/checkpoints, else ~/.cache/segcore/checkpoints.
/// \throws CheckpointError where neither SEGCORE_HOME nor HOME is set.
std::string weights_cache();

/// What is known of `location`: open-mmlab://NAME (or openmmlab://), mmcls://NAME,
/// torchvision://NAME (or modelzoo://), https:// and http:// addresses. A file whose name carries
/// its digest is directly in the cache folder, as for Python's torch.hub; any other (for example
/// "model.safetensors") is below the names of its host and folders, since others share its name.
/// \return nothing for the path of a file.
/// \throws CheckpointError for a name that its zoo lacks, and for other schemes (s3://).
std::optional<ZooFile> zoo_file(const std::string& location);

/// The file of weights at `location`; a path is returned unchanged.
/// \throws CheckpointError where a published file is not in the cache folder; the text names its
///         address, its place in the cache, and the command that downloads it.
std::string resolve_checkpoint(const std::string& location);

}  // namespace seg
