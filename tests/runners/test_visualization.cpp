#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <limits>
#include <opencv2/core.hpp>

#include "runners/visualization/event_file.hpp"
#include "runners/visualization/scalar_rows.hpp"
#include "runners/visualization/visualizer.hpp"
#include "segcore/image/image_io.hpp"
#include "tests/support/config_errors.hpp"
#include "tests/support/python.hpp"
#include "tests/support/temp_dir.hpp"

namespace seg {
namespace {

using ::testing::ElementsAre;

std::unique_ptr<Visualizer> visualizer(const std::string& back_ends, const std::string& folder) {
  const auto spec =
      Spec<Visualizer>::of("{type: SegLocalVisualizer, vis_backends: [" + back_ends + "]}");
  return spec.build(VisPlace{folder, "20261121_032601"});
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> out;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}

std::string event_file_in(const std::filesystem::path& folder) {
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().filename().string().rfind("events.out.tfevents.", 0) == 0) {
      return entry.path().filename().string();
    }
  }
  return "";
}

TEST(ScalarRow, IsWhatMMEngineWrites) {
  // Rows of a real run.
  EXPECT_EQ(scalar_row({{"base_lr", 5.999999999999999e-10},
                        {"lr", 3.157951578947368e-05},
                        {"decode.acc_seg", 1.881695032119751},
                        {"iter", 1}},
                       1),
            R"({"base_lr": 5.999999999999999e-10, "lr": 3.157951578947368e-05, )"
            R"("decode.acc_seg": 1.881695032119751, "iter": 1, "step": 1})");
  EXPECT_EQ(scalar_row({{"mIoU", 25.0},
                        {"IoU.a \"b\"", std::numeric_limits<double>::quiet_NaN()},
                        {"memory", 4749}},
                       20),
            R"({"mIoU": 25.0, "IoU.a \"b\"": null, "memory": 4749, "step": 20})");
}

TEST(LocalVisBackend, WritesTwoEqualFilesOfRows) {
  const test::TempDir dir;
  const auto vis = visualizer("{type: LocalVisBackend}", dir.path().string());
  vis->add_config("a: 1\n");
  vis->add_scalars({{"loss", 0.5}, {"iter", 10}}, 10);
  EXPECT_EQ(dir.read("scalars.json"), "{\"loss\": 0.5, \"iter\": 10, \"step\": 10}\n")
      << "not only after a flush";
  vis->add_scalars({{"mIoU", 25.5}}, 10);
  vis->add_image("val_a", cv::Mat(4, 6, CV_8UC3, cv::Scalar(255, 0, 0)), 10);
  vis->flush();
  EXPECT_EQ(lines_of(dir.read("scalars.json")).size(), 2u);
  EXPECT_EQ(dir.read("scalars.json"), dir.read("20261121_032601.json"));
  EXPECT_EQ(dir.read("config.yaml"), "a: 1\n");
  const cv::Mat image = read_image(dir / "vis_image/val_a_10.png");
  EXPECT_EQ(image.at<cv::Vec3b>(0, 0), cv::Vec3b(255, 0, 0));
  EXPECT_DOUBLE_EQ(vis->alpha(), 0.8);
}

TEST(LocalVisBackend, AppendsAfterATruncatedLine) {
  const test::TempDir dir;
  dir.write("scalars.json", "{\"loss\": 1.0, \"step\": 1}\n{\"loss\": 0.");
  visualizer("{type: LocalVisBackend}", dir.path().string())->add_scalars({{"loss", 0.25}}, 2);
  EXPECT_EQ(dir.read("scalars.json"),
            "{\"loss\": 1.0, \"step\": 1}\n{\"loss\": 0.25, \"step\": 2}\n");
}

TEST(CSVVisBackend, HasARowForEachValidation) {
  const test::TempDir dir;
  const auto vis = visualizer("{type: CSVVisBackend}", dir.path().string());
  vis->add_scalars({{"loss", 1.0}, {"time", 0.5}, {"iter", 10}}, 10);
  vis->add_scalars({{"loss", 0.5}, {"time", 0.25}, {"iter", 20}}, 20);
  vis->add_scalars({{"mIoU", 25.5}, {"time", 2.0}}, 20);
  vis->flush();
  EXPECT_THAT(lines_of(dir.read("scalars.csv")),
              ElementsAre("step,loss,time,iter,mIoU,val/time", "20,0.5,0.25,20,25.5,2.0"));
  vis->add_scalars({{"loss", 0.25}, {"time", 0.25}, {"grad_norm", 3.0}, {"iter", 30}}, 30);
  vis->add_scalars({{"mIoU", 30.0}, {"IoU.a,b", NAN}, {"time", 2.0}}, 30);
  vis->flush();
  EXPECT_THAT(lines_of(dir.read("scalars.csv")),
              ElementsAre("step,loss,time,iter,mIoU,val/time,grad_norm,\"IoU.a,b\"",
                          "20,0.5,0.25,20,25.5,2.0,,", "30,0.25,0.25,30,30.0,2.0,3.0,"));
}

TEST(CSVVisBackend, HasARowForEachEpochWithoutValidation) {
  const test::TempDir dir;
  const auto vis = visualizer("{type: CSVVisBackend}", dir.path().string());
  for (int epoch = 1; epoch <= 3; ++epoch) {
    for (int step = 1; step <= 2; ++step) {
      const int64_t iter = (epoch - 1) * 2 + step;
      vis->add_scalars({{"loss", 1.0 / static_cast<double>(iter)},
                        {"epoch", epoch},
                        {"iter", static_cast<double>(iter)}},
                       iter);
    }
  }
  vis->flush();
  const auto rows = lines_of(dir.read("scalars.csv"));
  ASSERT_EQ(rows.size(), 4u);
  EXPECT_EQ(rows[1], "2,0.5,1,2");
  EXPECT_EQ(rows[2], "4,0.25,2,4");
}

TEST(CSVVisBackend, HasOneRowForEachEpochWithItsValidation) {
  const test::TempDir dir;
  const auto vis = visualizer("{type: CSVVisBackend}", dir.path().string());
  for (int epoch = 1; epoch <= 3; ++epoch) {
    for (int step = 1; step <= 2; ++step) {
      const double iter = (epoch - 1) * 2 + step;
      vis->add_scalars({{"loss", 1.0 / iter}, {"epoch", epoch}, {"iter", iter}},
                       static_cast<int64_t>(iter));
    }
    // The second epoch is not validated.
    if (epoch == 2) continue;
    vis->add_scalars({{"mIoU", 10.0 * epoch}}, epoch);
    vis->flush();
  }
  EXPECT_THAT(lines_of(dir.read("scalars.csv")),
              ElementsAre("step,loss,epoch,iter,mIoU", "2,0.5,1,2,10.0", "4,0.25,2,4,",
                          "6," + number_text(1.0 / 6, "") + ",3,6,30.0"));
}

TEST(EventFile, FramesRecordsWithMaskedChecksums) {
  EXPECT_EQ(crc32c("123456789"), 0xe3069283u);  // the check value of CRC-32C
  const std::string record = tf_record("abc");
  ASSERT_EQ(record.size(), 8u + 4 + 3 + 4);
  EXPECT_EQ(record.substr(0, 8), std::string("\3\0\0\0\0\0\0\0", 8));
  EXPECT_EQ(record.substr(12, 3), "abc");
  // As TensorFlow wrote it.
  uint32_t length_crc = 0, data_crc = 0;
  std::memcpy(&length_crc, record.data() + 8, 4);
  std::memcpy(&data_crc, record.data() + 15, 4);
  auto masked = [](uint32_t crc) { return (crc >> 15 | crc << 17) + 0xa282ead8u; };
  EXPECT_EQ(length_crc, masked(crc32c(record.substr(0, 8))));
  EXPECT_EQ(data_crc, masked(crc32c("abc")));
}

TEST(TensorboardVisBackend, TensorBoardReadsIt) {
  const test::TempDir dir;
  {
    const auto vis = visualizer("{type: TensorboardVisBackend}", dir.path().string());
    vis->add_config("a: 1\n");
    vis->add_scalars({{"loss", 0.5}, {"decode.acc_seg", 12.25}}, 10);
    vis->add_scalars({{"loss", 0.25}}, 20);
    vis->add_image("val/picture", cv::Mat(4, 6, CV_8UC3, cv::Scalar(255, 0, 0)), 20);
    vis->flush();
  }
  const std::string name = event_file_in(dir.path());
  ASSERT_NE(name, "");
  const std::string bytes = dir.read(name);
  EXPECT_NE(bytes.find("brain.Event:2"), std::string::npos);
  // Each record is whole, and its checksum right.
  size_t at = 0, records = 0;
  while (at < bytes.size()) {
    uint64_t size = 0;
    std::memcpy(&size, bytes.data() + at, 8);
    ASSERT_LE(at + 16 + size, bytes.size());
    EXPECT_EQ(tf_record(bytes.substr(at + 12, size)), bytes.substr(at, 16 + size));
    at += 16 + size;
    ++records;
  }
  EXPECT_EQ(records, 6u);
  const std::string python = test::python_with_torch();
  if (python.empty() || test::run_command(python + " -c 'import tensorboard, PIL'").status != 0) {
    GTEST_SKIP() << "no Python with TensorBoard (see $SEGCORE_PYTHON)";
  }
  const auto result = test::run_python(python, R"(
import io, sys
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
a = EventAccumulator(sys.argv[1], size_guidance={"images": 0})
a.Reload()
print(a.Tags()["scalars"], a.Tags()["images"], a.Tags()["tensors"])
print([(e.step, e.value) for e in a.Scalars("loss")], [e.value for e in a.Scalars("decode.acc_seg")])
i = a.Images("val/picture")[0]
print(i.step, i.width, i.height, Image.open(io.BytesIO(i.encoded_image_string)).getpixel((0, 0)))
print(a.Tensors("config/text_summary")[0].tensor_proto.string_val[0])
)",
                                       dir.path().string());
  EXPECT_EQ(result.output,
            "['loss', 'decode.acc_seg'] ['val/picture'] ['config/text_summary']\n"
            "[(10, 0.5), (20, 0.25)] [12.25]\n"
            "20 6 4 (0, 0, 255)\n"
            "b'```yaml\\na: 1\\n\\n```'\n");
}

TEST(SegLocalVisualizer, TakesAnyNumberOfBackEnds) {
  const test::TempDir dir;
  const std::string folder = dir.path().string();
  const auto both =
      visualizer("{type: LocalVisBackend}, {type: mmseg.TensorboardVisBackend}", folder);
  both->add_scalars({{"loss", 1.0}}, 1);
  EXPECT_TRUE(std::filesystem::exists(dir / "scalars.json"));
  EXPECT_NE(event_file_in(dir.path()), "");
  const auto none =
      Spec<Visualizer>::of("{type: SegLocalVisualizer, vis_backends: null, name: vis, alpha: 0.5}");
  none.build(VisPlace{folder, ""})->add_scalars({{"loss", 1.0}}, 1);
  EXPECT_THAT(test::spec_error<Visualizer>(
                  "{type: SegLocalVisualizer, vis_backends: [{type: LocalVisBackends}]}"),
              ::testing::HasSubstr("Did you mean 'LocalVisBackend'?"));
  EXPECT_THAT(test::spec_error<Visualizer>("{type: SegLocalVisualizer, alpha: 2}"),
              ::testing::HasSubstr("must be between 0 and 1, got 2"));
}

}  // namespace
}  // namespace seg
