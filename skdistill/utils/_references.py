"""How the methods are cited, as doc/citing.rst has it."""

from typing import Any

SOFTWARE = """@software{skdistill,
  title   = {skdistill: dataset distillation in the manner of scikit-learn},
  author  = {{The skdistill developers}},
  version = {VERSION},
  url     = {https://github.com/skdistill/skdistill}
}"""

_GUAN = """@inproceedings{guan2023discovering,
  title     = {Discovering Galaxy Features via Dataset Distillation},
  author    = {Guan, Haowen and Zhao, Xuan and Wang, Zishi and Li, Zhiyang and Kempe, Julia},
  booktitle = {NeurIPS 2023 Workshop on Machine Learning and the Physical Sciences},
  year      = {2023},
  eprint    = {2311.17967},
  archivePrefix = {arXiv}
}"""  # noqa: E501
_CAZENAVETTE = """@inproceedings{cazenavette2022dataset,
  title     = {Dataset Distillation by Matching Training Trajectories},
  author    = {Cazenavette, George and Wang, Tongzhou and Torralba, Antonio
               and Efros, Alexei A. and Zhu, Jun-Yan},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  pages     = {4750--4759},
  year      = {2022}
}"""  # noqa: E501
_ZHAO_DC = """@inproceedings{zhao2021dataset,
  title     = {Dataset Condensation with Gradient Matching},
  author    = {Zhao, Bo and Mopuri, Konda Reddy and Bilen, Hakan},
  booktitle = {International Conference on Learning Representations},
  year      = {2021}
}"""
_ZHAO_DSA = """@inproceedings{zhao2021differentiable,
  title     = {Dataset Condensation with Differentiable Siamese Augmentation},
  author    = {Zhao, Bo and Bilen, Hakan},
  booktitle = {International Conference on Machine Learning},
  year      = {2021}
}"""
_ZHAO_DM = """@inproceedings{zhao2023distribution,
  title     = {Dataset Condensation with Distribution Matching},
  author    = {Zhao, Bo and Bilen, Hakan},
  booktitle = {IEEE/CVF Winter Conference on Applications of Computer Vision},
  year      = {2023}
}"""
_WANG_NCFM = """@inproceedings{wang2025dataset,
  title     = {Dataset Distillation with Neural Characteristic Function:
               A Minmax Perspective},
  author    = {Wang, Shaobo and Yang, Yicun and Liu, Zhiyuan and Sun, Chenghao and
               Hu, Xuming and He, Conghui and Zhang, Linfeng},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2025}
}"""
_WANG_CAFE = """@inproceedings{wang2022cafe,
  title     = {{CAFE}: Learning to Condense Dataset by Aligning Features},
  author    = {Wang, Kai and Zhao, Bo and Peng, Xiangyu and Zhu, Zheng and
               Yang, Shuo and Wang, Shuo and Huang, Guan and Bilen, Hakan and
               Wang, Xinchao and You, Yang},
  booktitle = {IEEE/CVF Conference on Computer Vision and Pattern Recognition},
  year      = {2022}
}"""
_WANG_DD = """@misc{wang2018dataset,
  title         = {Dataset Distillation},
  author        = {Wang, Tongzhou and Zhu, Jun-Yan and Torralba, Antonio
                   and Efros, Alexei A.},
  year          = {2018},
  eprint        = {1811.10959},
  archivePrefix = {arXiv}
}"""
_FENG = """@inproceedings{feng2024embarrassingly,
  title     = {Embarrassingly Simple Dataset Distillation},
  author    = {Feng, Yunzhen and Vedantam, Ramakrishna and Kempe, Julia},
  booktitle = {International Conference on Learning Representations},
  year      = {2024}
}"""
_NGUYEN = """@inproceedings{nguyen2021dataset,
  title     = {Dataset Meta-Learning from Kernel Ridge-Regression},
  author    = {Nguyen, Timothy and Chen, Zhourong and Lee, Jaehoon},
  booktitle = {International Conference on Learning Representations},
  year      = {2021}
}"""
_ZHOU = """@inproceedings{zhou2022dataset,
  title     = {Dataset Distillation using Neural Feature Regression},
  author    = {Zhou, Yongchao and Nezhadarya, Ehsan and Ba, Jimmy},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2022}
}"""
_LOO = """@inproceedings{loo2022efficient,
  title     = {Efficient Dataset Distillation using Random Feature Approximation},
  author    = {Loo, Noel and Hasani, Ramin and Amini, Alexander and Rus, Daniela},
  booktitle = {Advances in Neural Information Processing Systems},
  year      = {2022}
}"""
_WELLING = """@inproceedings{welling2009herding,
  title     = {Herding Dynamical Weights to Learn},
  author    = {Welling, Max},
  booktitle = {International Conference on Machine Learning},
  year      = {2009}
}"""

# By distiller; baselines that anybody would think of have none.
REFERENCES = {
    "STMDistiller": (_GUAN,),
    "MTTDistiller": (_CAZENAVETTE,),
    "DCDistiller": (_ZHAO_DC,),
    "DSADistiller": (_ZHAO_DSA,),
    "DMDistiller": (_ZHAO_DM,),
    "NCFMDistiller": (_WANG_NCFM,),
    "CAFEDistiller": (_WANG_CAFE,),
    "BPTTDistiller": (_WANG_DD, _FENG),
    "KIPDistiller": (_NGUYEN,),
    "FRePoDistiller": (_ZHOU,),
    "RFADDistiller": (_LOO, _ZHOU),
    "Herding": (_WELLING,),
}


def references_of(metadata: dict[str, Any]) -> list[str]:
    """Return how the method of a set, its data and the software are cited.

    Parameters
    ----------
    metadata : dict
        Of the set.

    Returns
    -------
    references : list of str
        BibTeX; of the data what the user said.
    """
    found = list(REFERENCES.get(str(metadata.get("distiller")), ()))
    if isinstance(metadata.get("citation"), str):
        found.append(metadata["citation"])
    run = metadata.get("run")
    versions = run.get("versions") if isinstance(run, dict) else None
    version = versions.get("skdistill") if isinstance(versions, dict) else None
    if version is None:
        lines = [line for line in SOFTWARE.splitlines() if "VERSION" not in line]
        return [*found, "\n".join(lines)]
    return [*found, SOFTWARE.replace("VERSION", str(version))]
