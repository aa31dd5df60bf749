"""Words of the screens in English and Chinese. Names of layouts, keys and units stay as they are in both."""

from collections.abc import Mapping

LANGUAGES = ("en", "zh")

_WORDS: Mapping[str, tuple[str, str]] = {
    "node": ("Node", "节点"),
    "plan": ("Plan", "方案"),
    "config": ("Config", "配置"),
    "run": ("Run", "运行"),
    "links": ("Links", "互联"),
    "gpus": ("GPUs", "显卡"),
    "holders": ("Holders of memory", "显存占用"),
    "islands": ("islands", "NVLink 岛"),
    "ring": ("Ring", "环"),
    "nics": ("NICs", "网卡"),
    "best ring": ("best ring", "最佳环"),
    "worst hop": ("worst hop", "最慢一跳"),
    "warnings": ("Findings on the node", "节点提示"),
    "no warnings": ("nothing stands in the way", "没有问题"),
    "no holders": ("no process holds memory", "没有进程占用显存"),
    "job": ("Job", "任务"),
    "model": ("model", "模型"),
    "length": ("length", "长度"),
    "engine": ("engine", "引擎"),
    "lock": ("lock", "锁定"),
    "candidates": ("Candidates", "候选方案"),
    "rejected": ("Rejected", "淘汰方案"),
    "why": ("Why", "决策过程"),
    "memory": ("Memory on one GPU", "单卡显存"),
    "step": ("Step", "单步时间"),
    "card": ("The card's answer", "速查卡的答案"),
    "agrees": ("agrees with ours", "与本工具一致"),
    "differs": ("differs from ours", "与本工具不同"),
    "best": ("best", "最佳"),
    "feasible": ("feasible", "可行"),
    "file": ("File", "文件"),
    "diff": ("Change against the disk", "与磁盘的差异"),
    "checks": ("Findings", "检查结果"),
    "command": ("Command", "命令"),
    "loss": ("Loss", "损失"),
    "tokens": ("Tokens/s a GPU", "每卡 tokens/s"),
    "ranks": ("Memory of each rank", "各进程显存"),
    "split": ("Where the step goes", "单步耗时分布"),
    "log": ("Log", "日志"),
    "status": ("Run", "运行状态"),
    "idle": ("idle", "空闲"),
    "first": ("first", "首步"),
    "predicted": ("predicted", "预测"),
    "measured": ("measured", "实测"),
    "planning": ("planning", "计算中"),
    "looking": ("looking at this machine", "正在检测本机"),
    "no run": ("No run yet. L launches the chosen plan.", "尚无运行。按 L 启动所选方案。"),
    "waiting": ("waiting for the first step", "等待第一步"),
    "no plan": ("Nothing fits. The list of rejected layouts names the nearest change.", "没有可行方案,请看淘汰列表。"),
    "help": ("Help", "帮助"),
    "everywhere": ("On every screen", "所有页面"),
    "paused": ("paused", "已暂停"),
    "saved": ("saved", "已保存"),
    "not saved": ("not on disk yet", "尚未写入磁盘"),
}


class Words:
    """The table in one language."""

    def __init__(self, language: str) -> None:
        self._column = LANGUAGES.index(language) if language in LANGUAGES else 0

    def __getitem__(self, key: str) -> str:
        return _WORDS[key][self._column]
