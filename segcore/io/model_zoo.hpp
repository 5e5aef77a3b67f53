/// Where the weights of published models come from and where their files are kept. Nothing here
/// touches the network: tools/fetch_weights downloads.
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
  /// The weights in the file lie below this prefix ("backbone." of classifiers from mmcls://), and
  /// what lies elsewhere is not wanted; "" where all are.
  std::string prefix;
};

/// The folder of downloaded weights: $SEGCORE_HOME/checkpoints, else ~/.cache/segcore/checkpoints.
/// \throws CheckpointError where neither SEGCORE_HOME nor HOME is set.
std::string weights_cache();

/// What is known of `location`: open-mmlab://NAME (or openmmlab://), mmcls://NAME,
/// torchvision://NAME (or modelzoo://), https:// and http:// addresses. A file whose name carries
/// its digest lies directly in the cache folder, as it does for Python's torch.hub; any other, such
/// as "model.safetensors", below the names of its host and folders, since others share its name.
/// \return nothing for the path of a file.
/// \throws CheckpointError for a name that its zoo lacks, and for other schemes (s3://).
std::optional<ZooFile> zoo_file(const std::string& location);

/// The file of weights that `location` means: a path is given back as it is.
/// \throws CheckpointError where a published file is not in the cache folder: it says from where
///         to where it must be copied, and which command does so.
std::string resolve_checkpoint(const std::string& location);

}  // namespace seg
